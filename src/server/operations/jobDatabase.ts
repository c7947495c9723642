/** The primary, to which jobs open connections of their own. */
export interface JobDatabase {
  url: string;
  /** The URL is that of a pooler in transaction mode. */
  viaPooler: boolean;
}
