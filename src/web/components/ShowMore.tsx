import { Button } from 'react-aria-components';
import { formatCount } from '../amounts.js';

/** Below a list that is shown in part: what is left of it, and the way to it. */
export function ShowMore({ left, onPress }: { left: number; onPress: () => void }) {
  if (left <= 0) return null;
  return (
    <Button className="button small" onPress={onPress}>
      Show more of {formatCount(left)}
    </Button>
  );
}
