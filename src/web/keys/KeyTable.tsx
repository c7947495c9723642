import { useState } from 'react';
import { Button } from 'react-aria-components';
import { useNowMs } from '../clock.js';
import { Name } from '../components/Name.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import { ShowMore } from '../components/ShowMore.js';
import { formatDay, formatInstant, formatSpan } from '../days.js';
import { type Organization, scopeName } from '../usage/scopes.js';
import { type Key, nameOfKey } from './key.js';
import { RenameKey } from './RenameKey.js';

/** Keys at first, and at each further look. */
const PAGE = 10;

export function KeyTable({
  keys,
  organizations,
  withUser,
  keyInUse,
  onShow,
  onRevoke,
}: {
  keys: readonly Key[];
  organizations: readonly Organization[];
  /** They are of several users. */
  withUser: boolean;
  keyInUse: string;
  onShow(key: Key): void;
  onRevoke(key: Key): void;
}) {
  const [shown, setShown] = useState(PAGE);
  const [renaming, setRenaming] = useState<string | null>(null);
  return (
    <>
      <ScrollRegion label="Keys as a table">
        <table>
          <thead>
            <tr>
              {['Name', withUser ? 'Member' : 'Pays', 'Scopes', 'Created', 'Last used', ''].map(
                (heading) => (
                  <th key={heading} scope="col">
                    {heading === '' ? <span className="unseen">Actions</span> : heading}
                  </th>
                ),
              )}
            </tr>
          </thead>
          <tbody>
            {keys.slice(0, shown).map((key) => (
              <tr key={key.id} data-key={key.id}>
                <th scope="row">
                  {renaming === key.id ? (
                    <RenameKey apiKey={key} onDone={() => setRenaming(null)} />
                  ) : (
                    <>
                      <Name text={nameOfKey(key)} />{' '}
                      {key.name !== null && <code className="muted">{key.key_prefix}…</code>}{' '}
                      {key.id === keyInUse && <span className="chip ok">in use here</span>}
                      {key.revoked_at !== null && <span className="chip danger">revoked</span>}
                    </>
                  )}
                </th>
                <td>
                  <Name
                    text={
                      withUser
                        ? (key.kilo_user_id ?? 'service key')
                        : scopeName(key.organization_id ?? 'personal', organizations)
                    }
                  />
                </td>
                <td>{key.scopes.join(', ')}</td>
                <td className="time">{formatDay(key.created_at.slice(0, 10))}</td>
                <td className="time">
                  {key.id === keyInUse ? 'just now' : <LastUse at={key.last_used_at} />}
                </td>
                <td>
                  <span className="row-actions">
                    <Button
                      className="button small"
                      aria-label={`What ${nameOfKey(key)} paid for`}
                      onPress={() => onShow(key)}
                    >
                      Spend
                    </Button>
                    {key.revoked_at === null && (
                      <>
                        <Button
                          className="button small"
                          aria-label={`Rename ${nameOfKey(key)}`}
                          onPress={() => setRenaming(key.id)}
                        >
                          Rename
                        </Button>
                        <Button
                          className="button small danger"
                          aria-label={`Revoke ${nameOfKey(key)}`}
                          onPress={() => onRevoke(key)}
                        >
                          Revoke
                        </Button>
                      </>
                    )}
                  </span>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollRegion>
      <ShowMore left={keys.length - shown} onPress={() => setShown(shown + PAGE * 5)} />
    </>
  );
}

/** Kept to about a minute. */
function LastUse({ at }: { at: string | null }) {
  const nowMs = useNowMs();
  if (at === null) return <>never seen</>;
  const seconds = Math.max(0, (nowMs - Date.parse(at)) / 1_000);
  return (
    <time dateTime={at} title={`${formatInstant(at)} UTC`}>
      {seconds < 120 ? 'just now' : `${formatSpan(seconds)} ago`}
    </time>
  );
}
