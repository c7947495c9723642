import { z } from 'zod';
import { parseInput } from '../validation.js';
import { procedureFor } from './procedure.js';

const noInput = z.strictObject({}).nullish();

/** What `microdollar status` prints. */
export const readStatus = procedureFor('admin')
  .input((value: unknown) => parseInput(noInput, value))
  .query(({ ctx }) => ctx.readStatus());
