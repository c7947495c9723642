const KEPT_MS = 10_000;

/** Spreadsheets take a CSV without it for the language's old encoding, and names of others for garbage. */
const BYTE_ORDER_MARK = '\ufeff';

/** Saves a CSV as a file of the browser's. */
export function downloadCsv(fileName: string, text: string): void {
  const url = URL.createObjectURL(new Blob([BYTE_ORDER_MARK, text], { type: 'text/csv' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = fileName;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_MS);
}
