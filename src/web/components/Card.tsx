import { type ReactNode, useId } from 'react';

/** A titled section. */
export function Card({
  anchor,
  title,
  note,
  tools,
  className = '',
  children,
}: {
  /** What links of the page lead to. */
  anchor?: string;
  title: string;
  note?: ReactNode;
  tools?: ReactNode;
  className?: string;
  children: ReactNode;
}) {
  const id = useId();
  return (
    <section id={anchor} className={`card ${className}`} aria-labelledby={id}>
      <div className="card-head">
        <div>
          <h2 id={id}>{title}</h2>
          {note !== undefined && <p className="card-note">{note}</p>}
        </div>
        {tools !== undefined && <div className="card-tools">{tools}</div>}
      </div>
      {children}
    </section>
  );
}

/** One figure of a row of figures. */
export function Tile({
  label,
  value,
  note,
  tone,
}: {
  label: string;
  value: ReactNode;
  note?: ReactNode;
  tone?: 'danger' | 'warning' | undefined;
}) {
  return (
    <div className={`tile ${tone ?? ''}`}>
      <dt>{label}</dt>
      <dd className="tile-value">{value}</dd>
      {note !== undefined && <dd className="tile-note">{note}</dd>}
    </div>
  );
}
