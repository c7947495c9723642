import type pg from 'pg';
import { type BackgroundTask, FIRST_REST_MS, type StartTask } from '../background.js';
import type { BudgetFolder, FoldedRows } from '../budgets/folder.js';
import type { Payer } from '../counter/payer.js';
import { type Query, queryOnPool } from '../db/query.js';
import type { Metrics } from '../metrics.js';
import type { PayerScope } from '../schema/unsettled.js';
import { type LookupAll, systemLookup } from './address.js';
import { AlertedPayers } from './alertedPayers.js';
import type { AlertStore } from './alerts.js';
import { Deliverer } from './deliverer.js';
import { DEFAULT_KEPT_DAYS } from './keptDays.js';
import { purgeAlerts } from './purge.js';
import { raiseAlerts } from './raise.js';
import { TestLimit } from './testLimit.js';

export interface LedgerAlertsOptions {
  pool: pg.Pool;
  folder: BudgetFolder;
  /** Connections of its own, opened when they are needed. */
  query: () => Query;
  allowsPrivate: boolean;
  /** How long what was told is kept. Default 90. */
  keptDays?: number | undefined;
  lookup?: LookupAll;
  metrics: Metrics;
  /** Usage of the payer is to be folded soon. */
  onUsed: (payer: Payer) => void;
  onError: (error: unknown) => void;
}

const FOLLOW_INTERVAL_MS = 15_000;
const DELIVERY_INTERVAL_MS = 1_000;
const LOOK_INTERVAL_MS = 15_000;
const PURGE_INTERVAL_MS = 3_600_000;

/** What a ledger does for alerts: decides with each fold, follows whose usage to fold, and delivers. */
export class Alerts {
  readonly store: AlertStore;
  readonly #options: LedgerAlertsOptions;
  readonly #payers: AlertedPayers;

  constructor(options: LedgerAlertsOptions) {
    this.#options = options;
    this.#payers = new AlertedPayers(options.onUsed);
    this.store = {
      pool: options.pool,
      folder: options.folder,
      allowsPrivate: options.allowsPrivate,
      lookup: options.lookup ?? systemLookup,
      tests: new TestLimit(),
      onSet: (payer) => this.#payers.add(payer),
    };
  }

  /** In the transaction of a fold. */
  async raise(query: Query, scope: PayerScope, id: string, folded: FoldedRows): Promise<void> {
    const raised = await raiseAlerts(query, scope, id, folded);
    if (raised === 0) return;
    this.#options.metrics.alertsRaised.inc(raised);
  }

  noteUsage(payer: Payer): void {
    this.#payers.noteUsage(payer);
  }

  /** Learns who has alerts. */
  startFollowing(start: StartTask): BackgroundTask {
    return start({
      name: 'alert_payers',
      intervalMs: FOLLOW_INTERVAL_MS,
      restsFirst: FIRST_REST_MS,
      run: () => this.#payers.refresh(queryOnPool(this.#options.pool, false)),
    });
  }

  startDelivering(start: StartTask): { stop(): Promise<void> }[] {
    const { metrics, query, folder, keptDays = DEFAULT_KEPT_DAYS, onError } = this.#options;
    const deliverer = new Deliverer({
      query: query(),
      lookup: this.store.lookup,
      allowsPrivate: this.store.allowsPrivate,
      onResult: (result, count) => metrics.alertDeliveries.inc({ result }, count),
      onError,
    });
    const sending = start({
      name: 'alert_delivery',
      intervalMs: DELIVERY_INTERVAL_MS,
      errorIntervalMs: DELIVERY_INTERVAL_MS * 5,
      run: () => deliverer.begin(),
    });
    const looking = start({
      name: 'alert_outbox',
      intervalMs: LOOK_INTERVAL_MS,
      run: async () => {
        const outbox = await deliverer.look();
        metrics.alertOutbox.set(Number(outbox.pending));
        metrics.alertOutboxAge.set(outbox.oldest_age_seconds);
        metrics.alertDeadLetters.set(Number(outbox.dead));
      },
    });
    const purging = start({
      name: 'alert_purge',
      intervalMs: PURGE_INTERVAL_MS,
      run: (signal) => purgeAlerts({ query: query(), folder, keptDays }, signal),
    });
    const stop = async () => {
      await sending.stop();
      await deliverer.stop();
    };
    return [looking, purging, { stop }];
  }
}
