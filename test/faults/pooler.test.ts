import { describe } from 'vitest';
import { startPooler } from '../support/pooler/transactionPooler.js';
import { describePoolerFaults } from './poolerFaults.js';

describe('a pooler in transaction mode', () => describePoolerFaults(startPooler));
