export declare const STAMP: string;
export declare function isBuiltFrom(digest: string): boolean;
export declare function digestOfInputs(): string;
