import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import { PERSONAL_LOOKUP_NAMES } from '../../src/schema/lookupNames.js';
import { createFilledFixture, FIRST, type FilledFixture, LAST } from './archiveHarness.js';

let fixture: FilledFixture;

beforeEach(async () => {
  fixture = await createFilledFixture();
});

afterEach(() => fixture.close());

describe('personal data (I11)', () => {
  const personal = {
    user_prompt_prefix: 'p',
    vercel_ip_latitude: 1.5,
    vercel_ip_longitude: 2.5,
    machine_id: 'm',
    session_id: 's',
    ...Object.fromEntries(PERSONAL_LOOKUP_NAMES.map((name) => [name, `v ${name}`])),
  };
  const other = { status_code: 200, latency: 0.25, is_byok: false, editor_name: 'e' };
  const recordFor = (kilo_user_id: string) =>
    fixture.record([
      {
        kilo_user_id,
        cost: 1,
        created_at: `${FIRST}T03:00:00Z`,
        metadata: { ...personal, ...other },
      },
    ]);
  const metadataOf = async (user: string) =>
    (await fixture.archived()).filter((event) => event.kilo_user_id === user).at(-1)?.metadata;

  it('is left out, and it is exactly what soft deletion scrubs', async () => {
    await fixture.addUser('x');
    await fixture.addUser('y');
    await recordFor('x');
    await recordFor('y');
    await softDeleteUser(fixture.database.pool, 'y');
    await fixture.archive(LAST);
    expect(await metadataOf('x')).toEqual(other);
    expect(await metadataOf('y')).toEqual(other);
    expect(
      await fixture.rows(`select from microdollar_usage_metadata where kilo_user_id = 'x'`),
    ).toEqual([]);
  });

  it('is kept when asked for, but never of a deleted user', async () => {
    await fixture.addUser('x');
    await fixture.addUser('y');
    await recordFor('x');
    await recordFor('y');
    await fixture.rows(`update kilocode_users set deleted_at = now() where id = 'y'`);
    await fixture.archive(LAST, { withPersonalData: true });
    expect(await metadataOf('x')).toEqual({ ...personal, ...other });
    expect(await metadataOf('y')).toEqual(other);
  });

  it('writes lookup values that have no id yet', async () => {
    await fixture.rows(
      `insert into microdollar_usage_metadata (id, kilo_user_id, lookup_values)
       values ($1, 'zero', '{"feature": "waiting"}')`,
      [fixture.events.at(-3)?.id],
    );
    await fixture.archive(LAST);
    expect(await metadataOf('zero')).toBeUndefined();
    const [first] = (await fixture.archived()).filter((event) => event.kilo_user_id === 'zero');
    expect(first?.metadata).toEqual({ feature: 'waiting' });
  });
});
