import { describe } from 'vitest';
import { ANSWERS } from '../../support/answers/index.js';
import { describeReadings } from './answerReadings.js';

describe('answers of our own making', () => describeReadings(ANSWERS));
