import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { toFailure } from '../api.js';
import { Card } from '../components/Card.js';
import { Confirm } from '../components/Confirm.js';
import { Empty, ErrorNotice, Loading } from '../components/Notice.js';
import { type Identity, useSession } from '../session.js';
import type { Organization } from '../usage/scopes.js';
import type { UsageState } from '../usage/usageState.js';
import { KeyTable } from './KeyTable.js';
import { type Key, nameOfKey } from './key.js';
import { NewKey } from './NewKey.js';
import type { useKeys } from './useKeys.js';

/** Keys: made, named, limited in scope and revoked here. Theirs who own an organization, too. */
export function KeysCard({
  identity,
  kiloUserId,
  organizations,
  owned,
  keys,
  onShow,
}: {
  identity: Identity;
  kiloUserId: string;
  organizations: readonly Organization[];
  /** The organization that is shown, where the user owns it. */
  owned: Organization | null;
  keys: ReturnType<typeof useKeys>;
  /** Shows what a key paid for. */
  onShow(change: Partial<UsageState>): void;
}) {
  const { api } = useSession();
  const queryClient = useQueryClient();
  const [revoking, setRevoking] = useState<Key | null>(null);
  const revoke = useMutation({
    mutationFn: (id: string) => api.keys.revoke.mutate({ id }),
    onSettled: () => queryClient.invalidateQueries({ queryKey: ['keys.list'] }),
  });
  const lists = [
    { title: 'Yours', query: keys.own, scope: 'all' },
    ...(owned === null
      ? []
      : [{ title: `That pay for ${owned.name}`, query: keys.shared, scope: owned.id }]),
  ];
  return (
    <Card
      anchor="keys"
      title="Keys"
      note="A key stands for its user. It can give no more than it has: what is not in its scopes is not offered."
    >
      <NewKey identity={identity} kiloUserId={kiloUserId} organizations={organizations} />
      {revoke.error !== null && (
        <ErrorNotice failure={toFailure(revoke.error)} what="The key was not revoked" />
      )}
      {lists.map(({ title, query, scope }) => (
        <section key={title} aria-label={`Keys: ${title}`}>
          <h3 className="card-subhead">
            <bdi>{title}</bdi>
          </h3>
          {query.error !== null ? (
            <ErrorNotice
              failure={toFailure(query.error)}
              what="The keys are not available"
              onRetry={() => query.refetch()}
            />
          ) : query.data === undefined ? (
            query.isFetching && <Loading what="keys" />
          ) : query.data.keys.length === 0 ? (
            <Empty title="No keys" />
          ) : (
            <KeyTable
              keys={query.data.keys}
              organizations={organizations}
              withUser={scope !== 'all'}
              keyInUse={identity.keyId}
              onShow={(key) => onShow({ key: key.id, scope, by: 'model', member: null, at: null })}
              onRevoke={setRevoking}
            />
          )}
        </section>
      ))}
      <Confirm
        isOpen={revoking !== null}
        title="Revoke this key?"
        action="Revoke"
        isDanger
        onConfirm={() => revoking !== null && revoke.mutate(revoking.id)}
        onClose={() => setRevoking(null)}
      >
        <p>
          <bdi>{revoking === null ? '' : nameOfKey(revoking)}</bdi> stops within seconds, for good.
          What was paid with it stays.
        </p>
        {revoking?.id === identity.keyId && (
          <p>
            <strong>It is the key you are signed in with: you will be signed out.</strong>
          </p>
        )}
      </Confirm>
    </Card>
  );
}
