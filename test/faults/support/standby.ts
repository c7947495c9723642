import { execFileSync } from 'node:child_process';
import { appendFileSync, cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { placesOf } from '../../../src/db/embedded/cluster.js';
import { type Cluster, makeClusterDir, openCluster } from './cluster.js';

/** A streaming standby of a cluster. */
export interface Standby extends Cluster {
  /** Everything the primary has committed is replayed, and visible. */
  untilCaughtUp(): Promise<void>;
  pauseReplay(): Promise<void>;
  resumeReplay(): Promise<void>;
  /** No more of the primary's log arrives. */
  disconnect(): Promise<void>;
  /** Becomes a primary; returns when it takes writes. */
  promote(): Promise<void>;
}

/**
 * A base backup by the low-level functions (the embedded server ships no pg_basebackup), then
 * streaming from a replication slot. As `name`, it is known to synchronous_standby_names.
 */
export async function startStandby(primary: Cluster, name: string): Promise<Standby> {
  const dataDir = makeClusterDir();
  const from = placesOf(primary.dataDir);
  const to = placesOf(dataDir);
  mkdirSync(to.root, { recursive: true, mode: 0o755 });
  // A backup belongs to the session that began it.
  const session = new pg.Client({ connectionString: primary.url });
  await session.connect();
  try {
    await session.query('select pg_create_physical_replication_slot($1, true)', [name]);
    await session.query('select pg_backup_start($1, true)', [name]);
    cpSync(from.password, to.password);
    execFileSync('cp', ['-a', from.cluster, to.cluster]);
    const { rows } = await session.query('select labelfile from pg_backup_stop()');
    rmSync(path.join(to.cluster, 'postmaster.pid'), { force: true });
    removeFilesIn(path.join(to.cluster, 'pg_wal'));
    writeFileSync(path.join(to.cluster, 'backup_label'), rows[0].labelfile);
  } finally {
    await session.end();
  }
  const { hostname, port, username, password } = new URL(primary.url);
  const connection =
    `host=${hostname} port=${port} user=${username} password=${password} ` +
    `application_name=${name}`;
  appendFileSync(
    path.join(to.cluster, 'postgresql.auto.conf'),
    `primary_conninfo = '${connection}'\nprimary_slot_name = '${name}'\n`,
  );
  writeFileSync(path.join(to.cluster, 'standby.signal'), '');
  giveTo(from.cluster, to.cluster, ['backup_label', 'standby.signal']);
  return toStandby(primary, await openCluster(dataDir));
}

function removeFilesIn(directory: string): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (entry.isFile()) rmSync(path.join(directory, entry.name));
  }
}

/** Files made here belong to whoever runs the cluster. */
function giveTo(model: string, cluster: string, names: readonly string[]): void {
  for (const name of names) {
    execFileSync('chown', [`--reference=${model}`, path.join(cluster, name)]);
  }
}

function toStandby(primary: Cluster, cluster: Cluster): Standby {
  const { pool } = cluster;
  const until = async (text: string, values: unknown[] = []) => {
    while (!(await pool.query(text, values)).rows[0]?.holds) await sleep(10);
  };
  return {
    ...cluster,
    async untilCaughtUp() {
      const { rows } = await primary.pool.query('select pg_current_wal_lsn()::text as lsn');
      await until('select pg_last_wal_replay_lsn() >= $1::pg_lsn as holds', [rows[0].lsn]);
    },
    async pauseReplay() {
      await pool.query('select pg_wal_replay_pause()');
      await until(`select pg_get_wal_replay_pause_state() = 'paused' as holds`);
    },
    async resumeReplay() {
      await pool.query('select pg_wal_replay_resume()');
    },
    async disconnect() {
      await pool.query(`alter system set primary_conninfo = ''`);
      await pool.query('select pg_reload_conf()');
      await until('select not exists (select from pg_stat_wal_receiver) as holds');
    },
    async promote() {
      await pool.query('select pg_promote(true, 60)');
      await until('select not pg_is_in_recovery() as holds');
    },
  };
}
