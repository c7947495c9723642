import { describe } from 'vitest';
import { describeReadings } from '../unit/gateway/answerReadings.js';
import { listRecordings } from './recordings.js';

describe('recordings of real providers', () => describeReadings(listRecordings()));
