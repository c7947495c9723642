/** A suffix of a metric's name and its unit, as UCUM writes it (annotations in braces). */
const UNITS: readonly (readonly [suffix: string, unit: string])[] = [
  ['seconds', 's'],
  ['bytes', 'By'],
  ['microdollars', '{microdollar}'],
  ['ratio', '1'],
];

/** Prometheus' convention: the base unit is the name's last part, before `_total`. */
export function unitOf(metricName: string): string {
  const name = metricName.replace(/_total$/, '');
  return UNITS.find(([suffix]) => name.endsWith(`_${suffix}`))?.[1] ?? '1';
}
