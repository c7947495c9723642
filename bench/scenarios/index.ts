import type { Scenario } from '../lib/scenario.js';
import { archive } from './archive.js';
import { backfill } from './backfill.js';
import { dimensionFold } from './dimensionFold.js';
import { dimensionMonth } from './dimensionMonth.js';
import { dimensionRollups } from './dimensionRollups.js';
import { fold } from './fold.js';
import { gatewayFirstByte } from './gatewayFirstByte.js';
import { gatewayHolds } from './gatewayHolds.js';
import { gatewayMemory } from './gatewayMemory.js';
import { gatewayThroughput } from './gatewayThroughput.js';
import { gatewayTraces } from './gatewayTraces.js';
import { holds } from './holds.js';
import { hostPoolAlone } from './hostPool.js';
import { hotUser } from './hotUser.js';
import { incident } from './incident.js';
import { instructions } from './instructions.js';
import { neighbours } from './neighbours.js';
import { organization } from './organization.js';
import { plans } from './plans.js';
import { profilePage } from './profilePage.js';
import { readLatency } from './readLatency.js';
import { resentCalls } from './resentCalls.js';
import { shards } from './shards.js';
import { startup } from './startup.js';
import { steady } from './steady.js';
import { uniformUsers } from './uniformUsers.js';
import { zipfUsers } from './zipfUsers.js';

/** In the order in which they run and are reported. */
export const SCENARIOS: readonly Scenario[] = [
  hotUser,
  uniformUsers,
  organization,
  zipfUsers,
  steady,
  hostPoolAlone,
  readLatency,
  profilePage,
  backfill,
  archive,
  plans,
  instructions,
  incident,
  neighbours,
  resentCalls,
  fold,
  dimensionRollups,
  dimensionMonth,
  dimensionFold,
  holds,
  shards,
  gatewayFirstByte,
  gatewayHolds,
  gatewayTraces,
  gatewayThroughput,
  gatewayMemory,
  startup,
];
