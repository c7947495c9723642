export interface EmbeddedPostgresOptions {
  /** Will hold `postgres/`: cluster, password, server log. Made if need be. */
  dataDir: string;
  /** Default: a free one. Ignored when the server of this directory runs already. */
  port?: number;
  /** False: the cluster is removed when its last user stops. Default true. */
  persistent?: boolean;
  /** PostgreSQL settings; they win over ours. */
  settings?: Readonly<Record<string, string>>;
  /** Created if missing. Default `microdollar`. */
  database?: string;
  /** Default 60,000 ms; covers crash recovery. */
  startTimeoutMs?: number;
}

export interface EmbeddedPostgres {
  /** With the password: not for logs. */
  url: string;
  port: number;
  dataDir: string;
  /** Of the server. */
  pid: number;
  /** Whether the server ran already: another process uses it, or one was killed and left it. */
  joined: boolean;
  /** Settles when the server is gone; `expected` when `stop` was called here. */
  exited: Promise<{ expected: boolean; reason: string }>;
  /** Ends our use; the last user of the directory stops the server. May be called twice. */
  stop(): Promise<void>;
}
