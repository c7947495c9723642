import { ATTRIBUTION_RULES } from '../record/event.js';
import type { UsageEvent } from '../record/types.js';

/**
 * `export` tells what the metadata has beside the event's own fields, whose limits are narrower: what only
 * the metadata may hold goes there.
 */
export function withStoredAttribution(event: UsageEvent): UsageEvent {
  return toMetadata(toMetadata(event, 'session_id'), 'end_user');
}

function toMetadata(event: UsageEvent, field: 'session_id' | 'end_user'): UsageEvent {
  const { [field]: text, metadata, ...rest } = event;
  const { minLength, maxLength } = ATTRIBUTION_RULES[field];
  if (typeof text !== 'string' || (text.length >= minLength && text.length <= maxLength)) {
    return event;
  }
  const isOther = metadata != null && (typeof metadata !== 'object' || metadata[field] != null);
  return isOther ? event : { ...rest, metadata: { ...metadata, [field]: text } };
}
