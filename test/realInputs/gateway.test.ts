import { describe } from 'vitest';
import { describeThroughGateway } from '../integration/gatewayAnswers.js';
import { listRecordings } from './recordings.js';

describe('recordings of real providers, through the gateway', () =>
  describeThroughGateway(listRecordings()));
