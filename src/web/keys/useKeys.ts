import { useQuery } from '@tanstack/react-query';
import { useMemo } from 'react';
import { useSession } from '../session.js';
import { tellApart } from '../usage/names.js';
import { nameOfKey } from './key.js';

/** The user's keys and, for an organization that they own, those that pay for it. */
export function useKeys(of: {
  kiloUserId: string;
  isOwn: boolean;
  ownedOrganizationId: string | null;
  isEnabled: boolean;
}) {
  const { api } = useSession();
  const { kiloUserId, ownedOrganizationId } = of;
  const own = useQuery({
    queryKey: ['keys.list', kiloUserId],
    queryFn: ({ signal }) =>
      api.keys.list.query(of.isOwn ? {} : { kilo_user_id: kiloUserId }, { signal }),
    enabled: of.isEnabled,
  });
  const shared = useQuery({
    queryKey: ['keys.list', 'organization', ownedOrganizationId],
    queryFn: ({ signal }) =>
      api.keys.list.query({ organization_id: ownedOrganizationId }, { signal }),
    enabled: of.isEnabled && ownedOrganizationId !== null,
  });
  const names = useMemo(
    () =>
      tellApart(
        [...(shared.data?.keys ?? []), ...(own.data?.keys ?? [])].map((key) => ({
          id: key.id,
          name: nameOfKey(key),
          hint: `${key.key_prefix}…`,
        })),
      ),
    [own.data, shared.data],
  );
  return { own, shared, names };
}
