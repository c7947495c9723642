import { Button, Tooltip, TooltipTrigger } from 'react-aria-components';
import { formatAmount, formatExact, type Microdollars } from '../amounts.js';
import { useExactAmounts } from '../exactAmounts.js';

/** USD by the one rule (amounts.ts); to the microdollar on hover, and everywhere by the header's switch. */
export function Amount({ microdollars }: { microdollars: Microdollars }) {
  const { isExact } = useExactAmounts();
  const exact = formatExact(microdollars);
  return (
    <data className="amount" value={String(microdollars)} title={exact}>
      {isExact ? exact : formatAmount(microdollars)}
    </data>
  );
}

/** The same for a figure that stands alone: on hover and on focus. */
export function FocusableAmount({ microdollars }: { microdollars: Microdollars }) {
  const { isExact } = useExactAmounts();
  const exact = formatExact(microdollars);
  return (
    <TooltipTrigger delay={100} closeDelay={100}>
      <Button className="amount-button">
        <data className="amount" value={String(microdollars)}>
          {isExact ? exact : formatAmount(microdollars)}
        </data>
      </Button>
      <Tooltip className="tooltip" offset={6}>
        exactly {exact}
      </Tooltip>
    </TooltipTrigger>
  );
}
