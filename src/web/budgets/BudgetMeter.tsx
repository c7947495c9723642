import { type Budget, describeUse, useOf } from './budget.js';

const HEIGHT = 10;

/** Used, held and left of a limit as one bar; beside it stands the same in amounts. */
export function BudgetMeter({ budget, name }: { budget: Budget; name: string }) {
  const { used, over, held, limit, level } = useOf(budget);
  const parts = [
    { className: `budget-used ${level}`, from: 0, size: used },
    { className: 'budget-over', from: used, size: over },
    { className: 'budget-held', from: used + over, size: held },
  ];
  return (
    <svg
      className="budget-meter"
      width="100%"
      height={HEIGHT}
      role="img"
      aria-label={`${name}: ${describeUse(budget)}`}
    >
      <rect className="budget-left" width="100%" height={HEIGHT} />
      {parts.map(({ className, from, size }) =>
        size > 0 ? (
          <rect
            key={className}
            className={className}
            x={`${from * 100}%`}
            width={`${size * 100}%`}
            height={HEIGHT}
          />
        ) : null,
      )}
      {limit < 1 && (
        <line
          className="budget-limit"
          x1={`${limit * 100}%`}
          x2={`${limit * 100}%`}
          y1={0}
          y2={HEIGHT}
        />
      )}
    </svg>
  );
}
