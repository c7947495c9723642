import { describe, expect, it } from 'vitest';
import { createLedger } from '../../src/ledger.js';
import type { LedgerOptions } from '../../src/ledgerTypes.js';
import { createTestDatabase } from '../support/database.js';

describe('a ledger', () => {
  it.each([{}, { databaseUrl: '' }, { databaseUrl: 'db' }, { databaseUrl: 'mysql://h/d' }])(
    'is not opened without the URL of a database: %j',
    async (options) => {
      await expect(createLedger(options as LedgerOptions)).rejects.toMatchObject({
        code: 'invalid_request',
        details: { field: 'databaseUrl' },
      });
    },
  );

  it('says that it is closed, whatever it is asked', async () => {
    const database = await createTestDatabase();
    try {
      const ledger = await createLedger({ databaseUrl: database.url });
      await ledger.close();
      const asked = [
        () => ledger.recordUsage({ kilo_user_id: 'u', cost: 1 }),
        () => ledger.fold(),
        () => ledger.getUserBalance('u'),
        () => ledger.getPendingStatus(),
        () => ledger.getAverageMonthlyUsageLast3Months({ kilo_user_id: 'u' }),
      ];
      for (const ask of asked) {
        const error = await ask().then(
          () => null,
          (thrown: unknown) => thrown,
        );
        expect(error).toMatchObject({ code: 'unavailable' });
        expect(String(error)).toMatch(/the ledger is clos(ed|ing)/);
      }
    } finally {
      await database.drop();
    }
  });
});
