/** The names in the examples; a test sends them to a server in the order in which they stand there. */
export const EXAMPLE = {
  user: 'ada',
  organization: '7c9e6679-7425-40de-944b-e07fc1f90ae7',
  usage: '018f6d2e-6a00-7a3b-9c53-0f6d1a2b3c4d',
  hold: '018f6d2e-6a00-7a3b-9c53-0f6d1a2b3c4e',
  otherHold: '018f6d2e-6a00-7a3b-9c53-0f6d1a2b3c4f',
  credit: 'b4f0c5de-12ab-4c34-9d56-7e8f90a1b2c3',
  key: '3f2b8f0e-9d4c-4c8a-8a5e-1f2e3d4c5b6a',
  budget: '9a1b2c3d-4e5f-4a6b-8c7d-0e1f2a3b4c5d',
  webhook: '5d0c7b1a-2e3f-4a4b-9c5d-6e7f80912a3b',
  alert: '2c4e6a80-1b3d-4f5a-8b7c-9d0e1f2a3b4d',
  at: '2026-11-22T10:00:00.000Z',
  atMicros: '2026-11-22T10:00:00.000000Z',
} as const;
