import type { Command } from 'commander';
import { LedgerError } from '../errors.js';

/** Fields of the ledger, and what commands call them. */
const SPELLINGS: Readonly<Record<string, readonly string[]>> = {
  id: ['id', 'budget', 'alert', 'delivery', 'webhook'],
  kilo_user_id: ['user', 'id'],
  organization_id: ['org'],
  api_key_id: ['key'],
  usage_id: ['usage-id'],
  expires_at: ['expires'],
  limit_usd: ['usd'],
  raise_usd: ['usd'],
  raise_until: ['until'],
  time_zone: ['zone'],
  budget_id: ['budget'],
  webhook_id: ['webhook'],
  thresholds_percent: ['at'],
  below_usd: ['below'],
  floor_usd: ['floor'],
  overlap_hours: ['overlap-hours'],
  scopes: ['scope'],
};

/** Whole words; some are words of every day as well, so only where they name a field. */
const FIELDS = /(?<=\bset )force\b|(?<= after )until\b|\b[a-z]+_[a-z_]+\b/g;

/**
 * The error with its fields called as `command` takes them, `<argument>` or `--option`; a field
 * that the command does not take keeps its name. `details.field` stays, for programs.
 */
export function inWordsOf(command: Command, error: LedgerError): LedgerError {
  const { code, details, cause } = error;
  const message = spellFirst(command, error).replaceAll(FIELDS, (field) => spell(command, field));
  return message === error.message ? error : new LedgerError(code, message, { details, cause });
}

/** Refusals begin with the field that they are of, whatever word that is. */
function spellFirst(command: Command, { message, details }: LedgerError): string {
  const { field } = details;
  if (typeof field !== 'string' || !message.startsWith(field)) return message;
  const rest = message.slice(field.length);
  return /^[ :]/.test(rest) ? `${spell(command, field)}${rest}` : message;
}

function spell(command: Command, field: string): string {
  for (const name of SPELLINGS[field] ?? [field]) {
    if (command.registeredArguments.some((argument) => argument.name() === name)) {
      return `<${name}>`;
    }
    if (command.options.some((option) => option.long === `--${name}`)) return `--${name}`;
  }
  return field;
}
