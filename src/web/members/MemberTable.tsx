import { useState } from 'react';
import { Button } from 'react-aria-components';
import { formatCount } from '../amounts.js';
import type { Outputs } from '../api.js';
import { Name } from '../components/Name.js';
import { Empty } from '../components/Notice.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import { ShowMore } from '../components/ShowMore.js';
import { formatDay } from '../days.js';

export type Member = Outputs['members']['list']['members'][number];

export const ROLES = ['member', 'owner'] as const;
export type Role = (typeof ROLES)[number];

/** Members at first, and at each further look. */
const PAGE = 20;
/** More than these are searched. */
const FEW = 12;

export function MemberTable({
  members,
  self,
  mayChange,
  onShow,
  onRole,
  onRemove,
}: {
  members: readonly Member[];
  /** Who looks at them; null: no user. */
  self: string | null;
  mayChange: boolean;
  onShow(member: string): void;
  onRole(member: string, role: Role): void;
  onRemove(member: Member): void;
}) {
  const [shown, setShown] = useState(PAGE);
  const [search, setSearch] = useState('');
  const wanted = search.trim().toLowerCase();
  const found = members.filter(({ kilo_user_id, name }) =>
    [kilo_user_id, name ?? ''].some((text) => text.toLowerCase().includes(wanted)),
  );
  return (
    <>
      {members.length > FEW && (
        <input
          type="search"
          className="scope-search"
          aria-label="Search members"
          placeholder={`Search ${formatCount(members.length)} members`}
          value={search}
          onChange={(event) => setSearch(event.target.value)}
        />
      )}
      {found.length === 0 ? (
        <Empty title="No such member" />
      ) : (
        <ScrollRegion label="Members as a table">
          <table>
            <thead>
              <tr>
                {['Member', 'Role', 'Since', ''].map((heading) => (
                  <th key={heading} scope="col">
                    {heading === '' ? <span className="unseen">Actions</span> : heading}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {found.slice(0, shown).map((member) => (
                <MemberRow
                  key={member.kilo_user_id}
                  member={member}
                  isSelf={member.kilo_user_id === self}
                  mayChange={mayChange}
                  onShow={onShow}
                  onRole={onRole}
                  onRemove={onRemove}
                />
              ))}
            </tbody>
          </table>
        </ScrollRegion>
      )}
      <ShowMore left={found.length - shown} onPress={() => setShown(shown + PAGE * 5)} />
    </>
  );
}

function MemberRow({
  member,
  isSelf,
  mayChange,
  onShow,
  onRole,
  onRemove,
}: {
  member: Member;
  isSelf: boolean;
  mayChange: boolean;
  onShow(member: string): void;
  onRole(member: string, role: Role): void;
  onRemove(member: Member): void;
}) {
  const { kilo_user_id: id, name, role, created_at } = member;
  return (
    <tr data-member={id}>
      <th scope="row">
        <Name text={id} /> {name !== null && name !== id && <Name text={name} />}{' '}
        {isSelf && <span className="chip ok">you</span>}
      </th>
      <td>
        {mayChange ? (
          <select
            aria-label={`Role of ${id}`}
            value={role}
            onChange={(event) => onRole(id, event.target.value as Role)}
          >
            {ROLES.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        ) : (
          <bdi>{role}</bdi>
        )}
      </td>
      <td className="time">{formatDay(created_at.slice(0, 10))}</td>
      <td>
        <span className="row-actions">
          <Button
            className="button small"
            aria-label={`What ${id} used`}
            onPress={() => onShow(id)}
          >
            Spend
          </Button>
          {mayChange && (
            <Button
              className="button small danger"
              aria-label={isSelf ? 'Leave the organization' : `Remove ${id}`}
              onPress={() => onRemove(member)}
            >
              {isSelf ? 'Leave' : 'Remove'}
            </Button>
          )}
        </span>
      </td>
    </tr>
  );
}
