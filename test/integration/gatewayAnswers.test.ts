import { describe } from 'vitest';
import { ANSWERS } from '../support/answers/index.js';
import { describeThroughGateway } from './gatewayAnswers.js';

describe('answers of our own making, through the gateway', () => describeThroughGateway(ANSWERS));
