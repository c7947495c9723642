import { useQuery } from '@tanstack/react-query';
import { Button } from 'react-aria-components';
import { toFailure } from '../api.js';
import { type BudgetNames, nameOfBudget } from '../budgets/budget.js';
import { Card } from '../components/Card.js';
import { Name } from '../components/Name.js';
import { Empty, ErrorNotice, Loading } from '../components/Notice.js';
import { useFormOpener } from '../components/useFormOpener.js';
import { formatInstant } from '../days.js';
import { useSeen } from '../seen.js';
import { useSession } from '../session.js';
import { type Alert, describeAlert, type Payer } from './alert.js';
import { Deliveries } from './Deliveries.js';
import { NewAlert } from './NewAlert.js';
import { useAlertChanges } from './useAlertChanges.js';
import { Webhooks } from './Webhooks.js';

/** Alerts of a payer, or of everybody: when they tell, where to, and what they told. */
export function AlertsCard({
  payer,
  names,
}: {
  payer: Payer | null;
  /** How budgets are called; null: by their ids. */
  names: BudgetNames | null;
}) {
  const { api } = useSession();
  const [card, isSeen] = useSeen();
  const adding = useFormOpener('New alert');
  const list = useQuery({
    queryKey: ['alerts.list', payer],
    queryFn: ({ signal }) => api.alerts.list.query(payer ?? {}, { signal }),
    enabled: isSeen,
  });
  const budgets = useQuery({
    queryKey: ['budgets.list', payer],
    queryFn: ({ signal }) => api.budgets.list.query(payer ?? {}, { signal }),
    enabled: isSeen && payer !== null,
  });
  const watched =
    names === null ? [] : (budgets.data?.budgets ?? []).filter(({ is_balance }) => !is_balance);
  const budgetName = (id: string) => {
    const found = watched.find((each) => each.id === id);
    return found === undefined || names === null
      ? `Budget ${id.slice(0, 8)}…`
      : nameOfBudget(found, names);
  };
  return (
    <div ref={card}>
      <Card
        anchor="alerts"
        title="Alerts"
        note="Decided with what is settled, once for each line that is crossed, and sent to webhooks."
        tools={adding.opener}
      >
        {adding.isOpen && (
          <NewAlert
            payer={payer}
            budgets={
              names === null ? null : watched.map(({ id }) => ({ id, text: budgetName(id) }))
            }
            onClose={adding.close}
          />
        )}
        {list.error !== null ? (
          <ErrorNotice
            failure={toFailure(list.error)}
            what="The alerts are not available"
            onRetry={() => list.refetch()}
          />
        ) : list.data === undefined ? (
          isSeen && <Loading what="alerts" />
        ) : (
          <>
            <AlertList
              alerts={list.data.alerts}
              withPayer={payer === null}
              budgetName={budgetName}
            />
            <Webhooks webhooks={list.data.webhooks} payer={payer} />
            <Deliveries payer={payer} budgetName={budgetName} />
          </>
        )}
      </Card>
    </div>
  );
}

function AlertList({
  alerts,
  withPayer,
  budgetName,
}: {
  alerts: readonly Alert[];
  withPayer: boolean;
  budgetName(id: string): string;
}) {
  const { remove } = useAlertChanges();
  return (
    <>
      {remove.error !== null && (
        <ErrorNotice failure={toFailure(remove.error)} what="The alert was not removed" />
      )}
      {alerts.length === 0 ? (
        <Empty title="No alerts" />
      ) : (
        <ul className="budgets">
          {alerts.map((alert) => {
            const what = describeAlert(alert, budgetName);
            return (
              <li key={alert.id} className="budget" data-alert={alert.id}>
                <div className="budget-head">
                  <span className="budget-name sentence">
                    {withPayer && (
                      <>
                        <Name text={alert.kilo_user_id ?? alert.organization_id ?? ''} />{' '}
                      </>
                    )}
                    <Name text={what} />
                  </span>
                  <span className="muted">
                    {alert.last_event_at === null
                      ? 'told nothing yet'
                      : `told last ${formatInstant(alert.last_event_at)} UTC`}
                  </span>
                  <span className="row-actions">
                    <Button
                      className="button small danger"
                      aria-label={`Remove the alert: ${what}`}
                      isDisabled={remove.isPending}
                      onPress={() => remove.mutate(alert.id)}
                    >
                      Remove
                    </Button>
                  </span>
                </div>
              </li>
            );
          })}
        </ul>
      )}
    </>
  );
}
