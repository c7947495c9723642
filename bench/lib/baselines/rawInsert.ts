import type { ApproachDefinition } from '../approach.js';
import { CONNECTIONS, eventStatement, openPool, WRITE_ROWS } from './statements.js';

const TEXT = `/* raw insert */
with ${WRITE_ROWS}
select true as is_written`;

/** The limit for one event a statement: usage and metadata row, no totals. */
export const rawInsert: ApproachDefinition = {
  name: 'raw-insert',
  label: 'raw insert only',
  kind: 'limit',
  caveat: 'keeps no totals',
  callers: CONNECTIONS,
  async open({ url, lookups }) {
    const pool = openPool(url);
    return {
      async write([event]) {
        if (event) await pool.query(eventStatement('raw_insert', TEXT, event, lookups));
      },
      differences: async () => [],
      close: () => pool.end(),
    };
  },
};
