import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { Button } from 'react-aria-components';
import { toFailure } from '../api.js';
import { Card } from '../components/Card.js';
import { Confirm } from '../components/Confirm.js';
import { ErrorNotice, Loading } from '../components/Notice.js';
import { useSeen } from '../seen.js';
import { type Identity, useSession } from '../session.js';
import type { Organization } from '../usage/scopes.js';
import { type Member, MemberTable, type Role } from './MemberTable.js';
import { NewMember } from './NewMember.js';

/** What members' keys may do with the organization's money; the server asks for the same. */
const SPENDING = ['usage:write', 'gateway'];

/** Members of an organization that the user owns: added, removed, made owners. */
export function MembersCard({
  organization,
  identity,
  onShow,
  onLeft,
}: {
  organization: Organization;
  identity: Identity;
  /** Shows what a member used. */
  onShow(member: string): void;
  /** The user is out of it themselves. */
  onLeft(): void;
}) {
  const { api } = useSession();
  const queryClient = useQueryClient();
  const [card, isSeen] = useSeen();
  const [after, setAfter] = useState<string | null>(null);
  const [removing, setRemoving] = useState<Member | null>(null);
  const page = useQuery({
    queryKey: ['members.list', organization.id, after],
    queryFn: ({ signal }) =>
      api.members.list.query({ organization_id: organization.id, after }, { signal }),
    enabled: isSeen,
  });
  // Who owns what is a part of the account, too.
  const renew = () =>
    Promise.all([
      queryClient.invalidateQueries({ queryKey: ['members.list', organization.id] }),
      queryClient.invalidateQueries({ queryKey: ['profile.account'] }),
    ]);
  const remove = useMutation({
    mutationFn: (kilo_user_id: string) =>
      api.members.remove.mutate({ organization_id: organization.id, kilo_user_id }),
    onSuccess: ({ kilo_user_id }) => {
      if (kilo_user_id === identity.kiloUserId) onLeft();
    },
    onSettled: renew,
  });
  const setRole = useMutation({
    mutationFn: ({ kilo_user_id, role }: { kilo_user_id: string; role: Role }) =>
      api.members.setRole.mutate({ organization_id: organization.id, kilo_user_id, role }),
    onSettled: renew,
  });
  const obstacle = obstacleOf(identity);
  const failed = remove.error ?? setRole.error;
  return (
    <div ref={card}>
      <Card
        anchor="members"
        title="Members"
        note={
          <>
            Of <bdi>{organization.name}</bdi>. A member spends its money; an owner also sees what
            all of them spend, and changes members.
          </>
        }
      >
        {obstacle === null ? (
          <NewMember organizationId={organization.id} onAdded={renew} />
        ) : (
          <p className="card-note">{obstacle}</p>
        )}
        {failed !== null && (
          <ErrorNotice failure={toFailure(failed)} what="The members are as they were" />
        )}
        {page.error !== null ? (
          <ErrorNotice
            failure={toFailure(page.error)}
            what="The members are not available"
            onRetry={() => page.refetch()}
          />
        ) : page.data === undefined ? (
          isSeen && <Loading what="members" />
        ) : (
          <MemberTable
            members={page.data.members}
            self={identity.kiloUserId}
            mayChange={obstacle === null}
            onShow={onShow}
            onRole={(kilo_user_id, role) => setRole.mutate({ kilo_user_id, role })}
            onRemove={setRemoving}
          />
        )}
        {(after !== null || page.data?.has_more) && (
          <div className="actions">
            {after !== null && (
              <Button className="button small" onPress={() => setAfter(null)}>
                First members
              </Button>
            )}
            {page.data?.has_more && (
              <Button
                className="button small"
                onPress={() => setAfter(page.data.members.at(-1)?.kilo_user_id ?? null)}
              >
                Next members
              </Button>
            )}
          </div>
        )}
        <Confirm
          isOpen={removing !== null}
          title="Remove this member?"
          action="Remove"
          isDanger
          onConfirm={() => removing !== null && remove.mutate(removing.kilo_user_id)}
          onClose={() => setRemoving(null)}
        >
          <p>
            <bdi>{removing?.kilo_user_id}</bdi> reads nothing of the organization any more, and
            within seconds none of their keys spends its money. What was used stays.
          </p>
          {removing?.kilo_user_id === identity.kiloUserId && (
            <p>
              <strong>It is you: you will not see this organization again.</strong>
            </p>
          )}
        </Confirm>
      </Card>
    </div>
  );
}

/** Why this key changes no members; null: it may. The server decides. */
function obstacleOf({ scopes, kiloUserId }: Identity): string | null {
  if (scopes.includes('admin')) return null;
  if (kiloUserId === null) return 'Members are changed by an owner, or by an administrator.';
  const lacking = SPENDING.filter((scope) => !scopes.some((each) => each === scope));
  if (lacking.length === 0) return null;
  return `To change members, sign in with a key that has ${lacking.join(' and ')}: a member may spend.`;
}
