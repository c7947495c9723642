/** @returns the files that went into it */
export function bundleTelemetry(project: string): Promise<string[]>;
