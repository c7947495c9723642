import { describe } from 'vitest';
import { describePoolerFaults } from './poolerFaults.js';
import { startPgbouncer } from './support/pgbouncer.js';

describe('pgbouncer in transaction mode', () => describePoolerFaults(startPgbouncer));
