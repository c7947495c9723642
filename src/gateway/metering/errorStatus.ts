/** The provider generated nothing, and charges for nothing: it refused, failed, or is elsewhere. */
export function isErrorStatus(statusCode: number): boolean {
  return statusCode >= 300;
}
