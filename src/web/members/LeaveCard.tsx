import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { Button } from 'react-aria-components';
import { toFailure } from '../api.js';
import { Card } from '../components/Card.js';
import { Confirm } from '../components/Confirm.js';
import { ErrorNotice } from '../components/Notice.js';
import { type Identity, useSession } from '../session.js';
import type { Organization } from '../usage/scopes.js';

/** A member of an organization goes. Owners have the same in the list of members. */
export function LeaveCard({
  organization,
  identity,
  onLeft,
}: {
  organization: Organization;
  identity: Identity;
  onLeft(): void;
}) {
  const { api } = useSession();
  const queryClient = useQueryClient();
  const [isAsked, setAsked] = useState(false);
  const leave = useMutation({
    mutationFn: () => api.members.leave.mutate({ organization_id: organization.id }),
    onSuccess: onLeft,
    onSettled: () => queryClient.invalidateQueries({ queryKey: ['profile.account'] }),
  });
  const onlyReads = !identity.scopes.some((scope) => scope !== 'usage:read');
  return (
    <Card
      anchor="members"
      title="Membership"
      note={
        <>
          You are a {organization.role} of <bdi>{organization.name}</bdi>.
        </>
      }
      tools={
        <Button
          className="button danger"
          isDisabled={onlyReads || leave.isPending}
          onPress={() => setAsked(true)}
        >
          Leave
        </Button>
      }
    >
      {onlyReads && (
        <p className="card-note">To leave, sign in with a key that has usage:write or gateway.</p>
      )}
      {leave.error !== null && (
        <ErrorNotice failure={toFailure(leave.error)} what="You did not leave" />
      )}
      <Confirm
        isOpen={isAsked}
        title="Leave the organization?"
        action="Leave"
        isDanger
        onConfirm={() => leave.mutate()}
        onClose={() => setAsked(false)}
      >
        <p>
          Within seconds none of your keys spends the money of <bdi>{organization.name}</bdi>, and
          you read nothing of it any more. Only an owner can take you in again.
        </p>
      </Confirm>
    </Card>
  );
}
