import { type Key, nameOfKey } from '../keys/key.js';
import type { Organization } from '../usage/scopes.js';
import type { Budget, NewBudgetInput, Setter } from './budget.js';

type Payer = 'kilo_user_id' | 'organization_id';

/** What a new budget may limit, and what has to be told of it. */
export interface SubjectChoice {
  scope: string;
  text: string;
  /** Given with the choice, chosen from a list, or typed. */
  id: { given: string } | { label: string; options?: readonly { id: string; text: string }[] };
  /** Who pays, where the scope needs it: given, or typed. */
  given: Partial<Record<Payer, string>>;
  asked: readonly Payer[];
}

export type SubjectChoices = readonly [SubjectChoice, ...SubjectChoice[]];

const choice = (
  scope: string,
  text: string,
  id: SubjectChoice['id'],
  given: SubjectChoice['given'] = {},
  asked: readonly Payer[] = [],
): SubjectChoice => ({ scope, text, id, given, asked });

const keyOptions = (keys: readonly Key[]) =>
  keys
    .filter(({ revoked_at }) => revoked_at === null)
    .map((key) => ({ id: key.id, text: nameOfKey(key) }));

/** Of a user, of what they pay themselves. */
export function subjectsOfUser(
  kiloUserId: string,
  isOwn: boolean,
  keys: readonly Key[],
): SubjectChoices {
  const paying = keyOptions(keys.filter(({ organization_id }) => organization_id === null));
  return [
    choice('user', isOwn ? 'All that I pay for' : 'All that the user pays for', {
      given: kiloUserId,
    }),
    ...(paying.length === 0 ? [] : [choice('key', 'A key', { label: 'Key', options: paying })]),
    choice('project', 'A project', { label: 'Project' }, { kilo_user_id: kiloUserId }),
  ];
}

/** Of an organization: for its owner all of it, for a member what is their own. */
export function subjectsOfOrganization(
  { id, role }: Organization,
  kiloUserId: string,
  keys: { own: readonly Key[]; shared: readonly Key[] },
): SubjectChoices {
  const given = { organization_id: id };
  const isOwner = role === 'owner';
  const paying = keyOptions(
    (isOwner ? keys.shared : keys.own).filter(({ organization_id }) => organization_id === id),
  );
  const ofKey =
    paying.length === 0 ? [] : [choice('key', 'A key', { label: 'Key', options: paying })];
  if (!isOwner) {
    return [choice('member', 'All that I use of it', { given: kiloUserId }, given), ...ofKey];
  }
  return [
    choice('organization', 'The organization', { given: id }),
    choice('member', 'A member', { label: 'User id of the member' }, given),
    ...ofKey,
    choice('project', 'A project', { label: 'Project' }, given),
  ];
}

/** Of anybody, for an administrator: named by their ids. */
export const SUBJECTS_OF_ALL: SubjectChoices = [
  choice('user', 'A user', { label: 'User id' }),
  choice('organization', 'An organization', { label: 'Organization id' }),
  choice('member', 'A member', { label: 'User id of the member' }, {}, ['organization_id']),
  choice('key', 'A key', { label: 'Key id' }),
  choice('project', 'A project', { label: 'Project' }, {}, ['kilo_user_id', 'organization_id']),
];

/** Input of `budgets.set`, but for the limit. */
export function toSubject(
  { scope, id, given, asked }: SubjectChoice,
  typed: { id: string } & Record<Payer, string>,
): Pick<NewBudgetInput, 'scope' | 'id' | Payer> {
  const payer = Object.fromEntries(
    asked
      .filter((field) => typed[field].trim() !== '')
      .map((field) => [field, typed[field].trim()]),
  );
  return { scope, id: 'given' in id ? id.given : typed.id.trim(), ...given, ...payer };
}

/** The budget that setting this one again changes; each setter has one of their own. */
export function findSame(
  known: readonly Budget[],
  wanted: Pick<NewBudgetInput, 'scope' | 'id' | 'window' | Payer>,
  setter: Setter,
): Budget | undefined {
  const isOf = (budget: Budget, payer: Payer) =>
    (wanted[payer] ?? null) === null || wanted[payer] === budget[payer];
  return known.find(
    (budget) =>
      !budget.is_balance &&
      budget.scope === wanted.scope &&
      budget.window === wanted.window &&
      budget.set_by === setter &&
      idOf(budget) === wanted.id &&
      isOf(budget, 'kilo_user_id') &&
      isOf(budget, 'organization_id'),
  );
}

function idOf(budget: Budget): string | null {
  if (budget.scope === 'key') return budget.api_key_id;
  if (budget.scope === 'project') return budget.project_id;
  return budget.scope === 'organization' ? budget.organization_id : budget.kilo_user_id;
}
