import {
  createUsageReader,
  type UsageReading,
  type WireFormat,
} from '../../../src/gateway/processUsage/index.js';

/** What is read of bytes that come in pieces of a size. */
export function readBytes(
  format: WireFormat,
  streamed: boolean,
  bytes: Buffer,
  size: number,
): UsageReading {
  const reader = createUsageReader(format, { streamed });
  for (const piece of chunksOf(bytes, size)) reader.push(piece);
  const reading = reader.end();
  if (reading.failure !== undefined) throw reading.failure;
  return reading;
}

export function chunksOf(bytes: Buffer, size: number): Buffer[] {
  const count = Math.ceil(bytes.length / size);
  return Array.from({ length: count }, (_, at) => bytes.subarray(at * size, (at + 1) * size));
}
