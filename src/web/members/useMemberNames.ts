import { useQuery } from '@tanstack/react-query';
import { useMemo } from 'react';
import { useSession } from '../session.js';
import { tellApart } from '../usage/names.js';

const NOBODY: ReadonlyMap<string, string> = new Map();

/** What the members of an organization that the user owns are called; of many, the first page of them. */
export function useMemberNames(of: {
  organizationId: string | null;
  isEnabled: boolean;
}): ReadonlyMap<string, string> {
  const { api } = useSession();
  const { organizationId } = of;
  const { data } = useQuery({
    queryKey: ['members.list', organizationId, null],
    queryFn: ({ signal }) =>
      api.members.list.query({ organization_id: organizationId ?? '', after: null }, { signal }),
    enabled: of.isEnabled && organizationId !== null,
  });
  return useMemo(
    () =>
      data === undefined
        ? NOBODY
        : tellApart(
            data.members.flatMap(({ kilo_user_id: id, name }) =>
              name ? [{ id, name, hint: id }] : [],
            ),
          ),
    [data],
  );
}
