import { useQuery } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { Button, Dialog, Heading, Modal, ModalOverlay } from 'react-aria-components';
import { formatCount, formatExact } from '../amounts.js';
import { type Outputs, toFailure } from '../api.js';
import { ErrorNotice, Loading } from '../components/Notice.js';
import { useSession } from '../session.js';
import type { NameOf } from '../usage/names.js';
import { formatTime, StatusChips } from './RequestTable.js';

type Detail = Outputs['usage']['request'];

/** One request: tokens, price and its source, attribution. Escape and Close lead back. */
export function RequestDetail({
  id,
  zone,
  nameOf,
  onClose,
}: {
  id: string | null;
  zone: string;
  nameOf: NameOf;
  onClose(): void;
}) {
  return (
    <ModalOverlay
      className="overlay"
      isOpen={id !== null}
      isDismissable
      onOpenChange={(open) => {
        if (!open) onClose();
      }}
    >
      <Modal className="modal wide">
        <Dialog className="dialog">
          <Heading slot="title" level={2}>
            Request
          </Heading>
          {id !== null && <Facts id={id} zone={zone} nameOf={nameOf} />}
          <div className="dialog-actions">
            <Button className="button" onPress={onClose}>
              Close
            </Button>
          </div>
        </Dialog>
      </Modal>
    </ModalOverlay>
  );
}

function Facts({ id, zone, nameOf }: { id: string; zone: string; nameOf: NameOf }) {
  const { api } = useSession();
  const detail = useQuery({
    queryKey: ['usage.request', id],
    queryFn: ({ signal }) => api.usage.request.query({ id }, { signal }),
  });
  if (detail.error !== null) {
    return (
      <ErrorNotice
        failure={toFailure(detail.error)}
        what="The request cannot be shown"
        onRetry={() => detail.refetch()}
      />
    );
  }
  if (detail.data === undefined) return <Loading what="the request" />;
  const request = detail.data;
  return (
    <>
      <Section
        title="What it was"
        facts={[
          ['Id', <code key="id">{request.id}</code>],
          [`Time (${zone})`, formatTime(request.created_at, zone)],
          ['Status', <StatusChips key="s" request={request} />],
          ['Model', text(request.model)],
          ['Requested model', text(request.requested_model)],
          ['Provider', text(request.inference_provider ?? request.provider)],
          ['API', text(request.api_kind)],
          ['HTTP status', number(request.status_code)],
          ['Latency to the first token', ms(request.latency)],
          ['First to last token', ms(request.generation_time)],
          ['Finish reason', text(request.finish_reason)],
          ['Streamed', yes(request.streamed)],
          ['Cancelled by the client', yes(request.cancelled)],
        ]}
      />
      <Section
        title="Tokens"
        facts={[
          ['Input', formatCount(request.input_tokens)],
          ['of it read from the cache', formatCount(request.cache_hit_tokens)],
          ['of it written to the cache', formatCount(request.cache_write_tokens)],
          ['Output', formatCount(request.output_tokens)],
          ['of it reasoning', number(request.reasoning_tokens)],
        ]}
      />
      <Section
        title="Price"
        facts={[
          ['Cost', <strong key="c">{formatExact(request.cost)}</strong>],
          ['Price source', request.unpriced ? 'no price is known' : text(request.price_source)],
          ['Price version', text(request.price_version)],
          ['At list prices', amount(request.market_cost)],
          ['As the provider reports', amount(request.reported_cost)],
          ['Estimate', text(request.estimated)],
          ['Not sure about', text(request.doubts.join(', ') || null)],
          ['Corrects', text(request.adjusts_usage_id)],
          ...request.corrections.map(
            (each): Fact => [
              `Corrected ${formatTime(each.created_at, zone)}`,
              `${formatExact(each.cost)}${each.price_source === null ? '' : ` (${each.price_source})`}`,
            ],
          ),
        ]}
      />
      <Section
        title="Attribution"
        facts={[
          ['User', text(request.kilo_user_id)],
          ['Paid by', text(request.organization_name ?? 'the user')],
          ['Key', keyOf(request, nameOf)],
          ['Project', text(request.project_id)],
          ["Application's user", text(request.end_user)],
          ['Session', text(request.session_id)],
          ['Tags', text(request.tags?.join(', ') || null)],
          ['Feature', text(request.feature)],
          ['Editor', text(request.editor_name)],
        ]}
      />
    </>
  );
}

type Fact = [label: string, value: ReactNode];

/** What is not known is not listed. */
function Section({ title, facts }: { title: string; facts: readonly Fact[] }) {
  const known = facts.filter(([, value]) => value !== null);
  return (
    <section>
      <h3>{title}</h3>
      <dl className="pairs facts">
        {known.map(([label, value]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function keyOf(request: Detail, nameOf: NameOf): ReactNode {
  if (request.api_key_id === null) return null;
  if (request.key_name !== null) return <bdi>{request.key_name}</bdi>;
  if (request.key_prefix !== null) return <code>{request.key_prefix}…</code>;
  return <bdi>{nameOf('key', { id: request.api_key_id, isOther: false })}</bdi>;
}

function text(value: string | null): ReactNode {
  return value === null || value === '' ? null : <bdi>{value}</bdi>;
}

function number(value: number | null): ReactNode {
  return value === null ? null : formatCount(value);
}

function ms(value: number | null): ReactNode {
  return value === null ? null : `${formatCount(Math.round(value))} ms`;
}

function yes(value: boolean | null): ReactNode {
  return value === null ? null : value ? 'yes' : 'no';
}

function amount(value: number | string | null): ReactNode {
  return value === null ? null : formatExact(value);
}
