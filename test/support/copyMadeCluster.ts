import { inject } from 'vitest';
import { copyCluster } from './madeCluster.js';

/** The run's made cluster in `dataDir`: a first start there finds the database `microdollar`, migrated. */
export function copyMadeCluster(dataDir: string): void {
  copyCluster(inject('madeCluster'), dataDir);
}
