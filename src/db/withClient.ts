import pg from 'pg';

export interface ClientOptions {
  applicationName: string;
  connectTimeoutMs: number;
}

/** A connection of its own, without time limits for what it runs; ends with the work. */
export async function withClient<T>(
  url: string,
  { applicationName, connectTimeoutMs }: ClientOptions,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({
    connectionString: url,
    application_name: applicationName,
    connectionTimeoutMillis: connectTimeoutMs,
    keepAlive: true,
  });
  client.on('error', () => {});
  try {
    await client.connect();
    return await work(client);
  } finally {
    await client.end().catch(() => {});
  }
}
