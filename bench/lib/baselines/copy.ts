import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { from as copyFrom } from 'pg-copy-streams';
import type { ApproachDefinition } from '../approach.js';
import {
  METADATA_COLUMN_LIST,
  metadataValues,
  openPool,
  USAGE_COLUMN_LIST,
  usageValues,
} from './statements.js';

const LANES = 4;
const ROWS = 500;

/** The limit for batches: COPY of usage and metadata in one transaction, no totals. */
export const copy: ApproachDefinition = {
  name: 'copy',
  label: `COPY, ${ROWS} rows a transaction`,
  kind: 'limit',
  caveat: 'keeps no totals; one duplicate id fails the whole batch',
  callers: LANES,
  eventsPerCall: ROWS,
  async open({ url, lookups }) {
    const pool = openPool(url, LANES);
    return {
      async write(events) {
        const now = new Date().toISOString();
        const usage = events.map((event) => copyLine([...usageValues(event), now]));
        const metadata = events.map((event) =>
          copyLine([event.id, event.kilo_user_id, now, ...metadataValues(event, lookups)]),
        );
        const client = await pool.connect();
        try {
          await client.query('begin');
          await pipeline(
            Readable.from([usage.join('')]),
            client.query(copyFrom(`copy microdollar_usage (${USAGE_COLUMN_LIST}) from stdin`)),
          );
          await pipeline(
            Readable.from([metadata.join('')]),
            client.query(
              copyFrom(`copy microdollar_usage_metadata (${METADATA_COLUMN_LIST}) from stdin`),
            ),
          );
          await client.query('commit');
        } finally {
          client.release();
        }
      },
      differences: async () => [],
      close: () => pool.end(),
    };
  },
};

/** One line of COPY's text format. The benchmark's values hold nothing to escape. */
function copyLine(values: readonly unknown[]): string {
  return `${values.map((value) => (value === null ? '\\N' : String(value))).join('\t')}\n`;
}
