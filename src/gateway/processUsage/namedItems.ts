import { asText, type JsonObject, objectsIn } from './json.js';
import type { NamedItem } from './types.js';

/** Of a provider's name for an item; longer ones are none. */
export const MAX_ITEM_ID = 512;

/**
 * Items of a request's input that have a name: of those the provider may put in what it keeps under it.
 * `item_reference`, also without its type, has nothing else; reasoning and images may lack their content.
 */
export function readNamedItems(request: JsonObject): NamedItem[] {
  return objectsIn(request.input).flatMap((item) => {
    const id = asText(item.id);
    return id === null ? [] : [{ id, isReference: isReference(item) }];
  });
}

function isReference(item: JsonObject): boolean {
  switch (item.type ?? null) {
    case 'item_reference':
      return true;
    case 'reasoning':
      return asText(item.encrypted_content) === null;
    case 'image_generation_call':
      return asText(item.result) === null;
    case null:
      return item.role === undefined && item.content === undefined;
    default:
      return false;
  }
}
