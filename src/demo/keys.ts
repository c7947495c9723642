import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { createApiKey } from '../accounts/apiKeys.js';
import { authenticateApiKey } from '../accounts/authenticate.js';

export interface DemoKey {
  kilo_user_id: string;
  key: string;
}

/**
 * A key to look at each of these users with; kept in the data directory (0600), for a key is never
 * shown twice, and made anew when the kept one is not of this database.
 */
export async function obtainDemoKeys(
  pool: pg.Pool,
  dataDir: string,
  userIds: readonly string[],
): Promise<DemoKey[]> {
  const path = join(dataDir, 'demo-keys.json');
  const kept = await readKeys(path);
  const keys: DemoKey[] = [];
  for (const userId of userIds) {
    const known = kept.find((each) => each.kilo_user_id === userId);
    const identity = known ? await authenticateApiKey(pool, known.key) : null;
    if (known !== undefined && identity?.kilo_user_id === userId) {
      keys.push(known);
      continue;
    }
    const scopes = ['usage:read', 'usage:write', 'gateway'];
    const { key } = await createApiKey(pool, {
      kilo_user_id: userId,
      name: 'sign-in',
      scopes,
    });
    keys.push({ kilo_user_id: userId, key });
  }
  await writeFile(path, `${JSON.stringify(keys, null, 2)}\n`, { mode: 0o600 });
  return keys;
}

async function readKeys(path: string): Promise<DemoKey[]> {
  try {
    const kept: unknown = JSON.parse(await readFile(path, 'utf8'));
    return Array.isArray(kept) ? (kept as DemoKey[]) : [];
  } catch {
    return [];
  }
}
