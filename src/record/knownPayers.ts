import type { Payer } from '../counter/payer.js';

/** How long a process believes that a payer exists: rows can be lost with a cluster, or restored. */
const LEASE_MS = 60_000;
const MAX_PAYERS = 200_000;

/**
 * Users and organizations that this process has seen. Payers are never removed, so their next
 * writes need no join that proves them; what is believed ends with its lease.
 */
export class KnownPayers {
  readonly #untilMs = new Map<string, number>();

  has(payer: Payer): boolean {
    const nowMs = performance.now();
    return (
      this.#isKnown(`u:${payer.kilo_user_id}`, nowMs) &&
      (payer.organization_id === null || this.#isKnown(`o:${payer.organization_id}`, nowMs))
    );
  }

  /** Believed from now on, if it was not: a write that took it for granted proves nothing. */
  add(payer: Payer): void {
    const nowMs = performance.now();
    this.#note(`u:${payer.kilo_user_id}`, nowMs);
    if (payer.organization_id !== null) this.#note(`o:${payer.organization_id}`, nowMs);
  }

  clear(): void {
    this.#untilMs.clear();
  }

  #note(key: string, nowMs: number): void {
    if (this.#isKnown(key, nowMs)) return;
    if (this.#untilMs.size >= MAX_PAYERS) this.#untilMs.clear();
    this.#untilMs.set(key, nowMs + LEASE_MS);
  }

  #isKnown(key: string, nowMs: number): boolean {
    return (this.#untilMs.get(key) ?? 0) > nowMs;
  }
}
