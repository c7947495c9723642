import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { Button } from 'react-aria-components';
import { Link } from 'react-router';
import { type Outputs, toFailure } from '../api.js';
import { Card } from '../components/Card.js';
import { Name } from '../components/Name.js';
import { Empty, ErrorNotice, Loading } from '../components/Notice.js';
import { useFormOpener } from '../components/useFormOpener.js';
import { useSeen } from '../seen.js';
import { useSession } from '../session.js';
import { BudgetList } from './BudgetList.js';
import { NewBudget } from './NewBudget.js';
import { SUBJECTS_OF_ALL } from './subjects.js';

type Payer = Outputs['budgets']['payers']['payers'][number];
type After = Pick<Payer, 'scope' | 'id'>;

/** Everybody's budgets, payer by payer, for an administrator. */
export function AllBudgetsCard() {
  const { api } = useSession();
  const [card, isSeen] = useSeen();
  const adding = useFormOpener('New budget');
  const [after, setAfter] = useState<After | null>(null);
  const page = useQuery({
    queryKey: ['budgets.payers', after],
    queryFn: ({ signal }) => api.budgets.payers.query({ after }, { signal }),
    enabled: isSeen,
  });
  const last = page.data?.payers.at(-1);
  return (
    <div ref={card}>
      <Card
        title="Budgets"
        note="Of every payer. Users and owners set their own beside these; the lowest counts."
        tools={adding.opener}
      >
        {adding.isOpen && (
          <NewBudget
            subjects={SUBJECTS_OF_ALL}
            known={page.data?.payers.flatMap(({ budgets }) => budgets) ?? []}
            isPartOfAll={page.data === undefined || page.data.has_more || after !== null}
            setter="admin"
            onSet={adding.close}
            onClose={adding.close}
          />
        )}
        {page.error !== null ? (
          <ErrorNotice
            failure={toFailure(page.error)}
            what="The budgets are not available"
            onRetry={() => page.refetch()}
          />
        ) : page.data === undefined ? (
          isSeen && <Loading what="budgets" />
        ) : page.data.payers.length === 0 ? (
          <Empty title="No budgets" />
        ) : (
          page.data.payers.map((payer) => (
            <PayerBudgets key={`${payer.scope} ${payer.id}`} payer={payer} />
          ))
        )}
        {(after !== null || page.data?.has_more) && (
          <div className="actions">
            {after !== null && (
              <Button className="button small" onPress={() => setAfter(null)}>
                First payers
              </Button>
            )}
            {page.data?.has_more && last !== undefined && (
              <Button
                className="button small"
                onPress={() => setAfter({ scope: last.scope, id: last.id })}
              >
                Next payers
              </Button>
            )}
          </div>
        )}
      </Card>
    </div>
  );
}

function PayerBudgets({ payer }: { payer: Payer }) {
  const { scope, id, name } = payer;
  return (
    <section className="payer-budgets" aria-label={`Budgets of ${name ?? id}`}>
      <p className="payer-name">
        {scope === 'user' ? (
          <Link to={`/profile?user=${encodeURIComponent(id)}`}>
            <Name text={id} isFocusable={false} />
          </Link>
        ) : (
          <>
            <Name text={name ?? id} /> <code className="muted">{id}</code>
          </>
        )}
      </p>
      <BudgetList
        budgets={payer.budgets.filter(({ is_balance }) => !is_balance)}
        names={{ self: null, organization: name, key: (keyId) => keyId }}
        mayChange={() => true}
      />
    </section>
  );
}
