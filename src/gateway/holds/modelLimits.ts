/** Tokens of one answer, as its maker publishes them; as of November 2026. */
export interface ModelLimits {
  output: number;
  /** Of prompt and output together. */
  context: number;
}

/** The first that fits counts. Clouds put names around these: they are looked for anywhere. */
const KNOWN: readonly [models: RegExp, output: number, context: number][] = [
  [/\bgpt-3\.5/, 4_096, 16_385],
  [/\bgpt-4-32k/, 8_192, 32_768],
  [/\bgpt-4-(turbo|vision|1106|0125)/, 4_096, 128_000],
  [/\bgpt-4o-2024-05-13/, 4_096, 128_000],
  [/\bgpt-4o/, 16_384, 128_000],
  [/\bgpt-4\.1/, 32_768, 1_047_576],
  [/\bgpt-4\.5/, 16_384, 128_000],
  [/\bgpt-4(-\d{4})?$/, 8_192, 8_192],
  [/\bo1-mini/, 65_536, 128_000],
  [/\bo1-preview/, 32_768, 128_000],
  [/\bo[134](-|$)/, 100_000, 200_000],
  [/\bgpt-5(\.\d)?-chat/, 16_384, 128_000],
  [/\bgpt-5(\.\d)?-pro/, 272_000, 400_000],
  [/\bgpt-5/, 128_000, 1_050_000],
  [/\bclaude-3-(opus|sonnet|haiku)/, 4_096, 200_000],
  [/\bclaude-3-5/, 8_192, 200_000],
  [/\bclaude-3-7/, 64_000, 200_000],
  [/\bclaude-opus-4(-1)?(-2025\d+)?$/, 32_000, 200_000],
  [/\bclaude-(opus|sonnet|haiku)-4/, 64_000, 1_000_000],
  [/\bgemini-(1\.5|2\.0)/, 8_192, 2_097_152],
  [/\bgemini-(2\.5|3)/, 65_536, 1_048_576],
];

/** Of a model that nobody knows here, where its request names no limit: every model can do as much. */
export const UNKNOWN_MODEL_OUTPUT = 4_096;

/** Null: not known. */
export function limitsOf(model: string | null): ModelLimits | null {
  const name = model?.toLowerCase() ?? '';
  const known = KNOWN.find(([models]) => models.test(name));
  return known === undefined ? null : { output: known[1], context: known[2] };
}
