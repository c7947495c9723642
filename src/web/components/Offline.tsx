import { useSyncExternalStore } from 'react';

/** Said at the top while the device has no network. */
export function Offline() {
  const isOnline = useSyncExternalStore(subscribe, () => navigator.onLine);
  if (isOnline) return null;
  return (
    <p className="notice warning offline" role="status">
      This device is offline. What you see was loaded before; nothing new can be.
    </p>
  );
}

function subscribe(listener: () => void): () => void {
  for (const name of ['online', 'offline']) addEventListener(name, listener);
  return () => {
    for (const name of ['online', 'offline']) removeEventListener(name, listener);
  };
}
