import { useQuery } from '@tanstack/react-query';
import { toFailure } from '../api.js';
import { Card } from '../components/Card.js';
import { Empty, ErrorNotice, Loading, NotRenewed } from '../components/Notice.js';
import { useFormOpener } from '../components/useFormOpener.js';
import type { useKeys } from '../keys/useKeys.js';
import { useSeen } from '../seen.js';
import { type Identity, useSession } from '../session.js';
import type { Organization } from '../usage/scopes.js';
import { BudgetList } from './BudgetList.js';
import type { Budget, BudgetNames, Setter } from './budget.js';
import { NewBudget } from './NewBudget.js';
import { subjectsOfOrganization, subjectsOfUser } from './subjects.js';

/** Budgets of the scope: the user's own, or the organization's as far as the user may see them. */
export function BudgetsCard({
  identity,
  kiloUserId,
  organization,
  keys,
  names,
}: {
  identity: Identity;
  kiloUserId: string;
  /** The one that is shown; null: the user's own. */
  organization: Organization | null;
  keys: ReturnType<typeof useKeys>;
  names: BudgetNames;
}) {
  const { api } = useSession();
  const [card, isSeen] = useSeen();
  const of =
    organization === null ? { kilo_user_id: kiloUserId } : { organization_id: organization.id };
  const list = useQuery({
    queryKey: ['budgets.list', of],
    queryFn: ({ signal }) => api.budgets.list.query(of, { signal }),
    enabled: isSeen,
  });
  const own = keys.own.data?.keys ?? [];
  const shared = keys.shared.data?.keys ?? [];
  const isOwn = kiloUserId === identity.kiloUserId;
  const subjects =
    organization === null
      ? subjectsOfUser(kiloUserId, isOwn, own)
      : subjectsOfOrganization(organization, kiloUserId, { own, shared });
  const adding = useFormOpener('New budget');
  const obstacle = obstacleOf(identity, isOwn);
  const budgets = list.data?.budgets.filter(({ is_balance }) => !is_balance);
  return (
    <div ref={card}>
      <Card
        anchor="budgets"
        title="Budgets"
        note={<Note organization={organization} isOwn={isOwn} />}
        tools={obstacle === null && adding.opener}
      >
        {obstacle !== null && <p className="card-note">{obstacle}</p>}
        {adding.isOpen && (
          <NewBudget
            subjects={subjects}
            known={budgets ?? []}
            isPartOfAll={budgets === undefined}
            setter={setterOf(identity, organization)}
            onSet={adding.close}
            onClose={adding.close}
          />
        )}
        {budgets === undefined ? (
          list.error !== null ? (
            <ErrorNotice
              failure={toFailure(list.error)}
              what="The budgets are not available"
              onRetry={() => list.refetch()}
            />
          ) : (
            isSeen && <Loading what="budgets" />
          )
        ) : (
          <>
            {list.error !== null && <NotRenewed failure={toFailure(list.error)} />}
            {budgets.length === 0 ? (
              <Empty title="No budgets">
                <p>Nothing but the balance limits what is spent here.</p>
              </Empty>
            ) : (
              <BudgetList
                budgets={budgets}
                names={names}
                mayChange={(budget) =>
                  obstacle === null && mayChange(budget, identity, organization, own)
                }
              />
            )}
          </>
        )}
      </Card>
    </div>
  );
}

function Note({ organization, isOwn }: { organization: Organization | null; isOwn: boolean }) {
  if (organization === null) {
    return (
      <>
        On what {isOwn ? 'you pay yourself' : 'this user pays'}; those of an organization are in its
        scope. Where several count a request, the lowest refuses first.
      </>
    );
  }
  return (
    <>
      Of <bdi>{organization.name}</bdi>
      {organization.role === 'owner'
        ? '. Where several count a request, the lowest refuses first.'
        : `: those that limit ${isOwn ? 'you' : 'this member'} alone.`}
    </>
  );
}

/** Why this key sets no budgets here; null: it may. The server decides. */
function obstacleOf({ scopes }: Identity, isOwn: boolean): string | null {
  if (scopes.includes('admin')) return null;
  if (!isOwn) return 'Budgets are set by the user, or by an administrator.';
  if (scopes.includes('usage:write') || scopes.includes('gateway')) return null;
  return 'To set budgets, sign in with a key that has usage:write or gateway.';
}

/** As whom a budget is set here. */
function setterOf({ scopes }: Identity, organization: Organization | null): Setter {
  if (scopes.includes('admin')) return 'admin';
  return organization?.role === 'owner' ? 'owner' : 'user';
}

/** Whoever set it changes it, and an administrator any. */
function mayChange(
  budget: Budget,
  { scopes, kiloUserId }: Identity,
  organization: Organization | null,
  ownKeys: readonly { id: string }[],
): boolean {
  if (scopes.includes('admin')) return true;
  if (budget.set_by === 'owner') return organization?.role === 'owner';
  if (budget.set_by === 'admin') return false;
  return budget.kilo_user_id === kiloUserId || ownKeys.some(({ id }) => id === budget.api_key_id);
}
