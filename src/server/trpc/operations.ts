import { z } from 'zod';
import { inputOf } from '../validation.js';
import {
  pauseBackfill,
  planBackfill,
  readBackfill,
  resumeBackfill,
  startBackfill,
} from './operationsBackfill.js';
import { readCoverage } from './operationsCoverage.js';
import { readLive, readUnpriced } from './operationsLive.js';
import { readDrift, repairRange, verifyRange } from './operationsProof.js';
import { compareReads, readMode, switchReadMode } from './operationsReadMode.js';
import { procedureFor, router } from './procedure.js';

const noInput = z.strictObject({}).nullish();

const readStatus = procedureFor('admin', 'What `microdollar status` prints.')
  .input(inputOf(noInput))
  .query(({ ctx }) => ctx.readStatus());

/** What the console shows and does; all of it for the `admin` scope. */
export const operationsRouter = router({
  status: readStatus,
  live: readLive,
  coverage: readCoverage,
  backfill: readBackfill,
  planBackfill,
  startBackfill,
  pauseBackfill,
  resumeBackfill,
  readMode,
  setReadMode: switchReadMode,
  compareReads,
  drift: readDrift,
  verify: verifyRange,
  repair: repairRange,
  unpriced: readUnpriced,
});
