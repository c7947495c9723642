import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useSession } from '../session.js';
import type { NewAlertInput, Payer } from './alert.js';

/** What the page changes of alerts, webhooks and deliveries; what is shown of them is asked for again. */
export function useAlertChanges() {
  const { api } = useSession();
  const queryClient = useQueryClient();
  const renew = () =>
    Promise.all(
      ['alerts.list', 'alerts.deliveries'].map((name) =>
        queryClient.invalidateQueries({ queryKey: [name] }),
      ),
    );
  return {
    set: useMutation({
      mutationFn: (input: NewAlertInput) => api.alerts.set.mutate(input),
      onSuccess: renew,
    }),
    remove: useMutation({
      mutationFn: (id: string) => api.alerts.remove.mutate({ id }),
      onSettled: renew,
    }),
    replay: useMutation({
      mutationFn: (id: string) => api.alerts.replay.mutate({ id }),
      onSettled: renew,
    }),
    addWebhook: useMutation({
      mutationFn: (input: Payer & { url: string }) => api.alerts.webhooks.add.mutate(input),
      onSuccess: renew,
    }),
    rotate: useMutation({
      mutationFn: (id: string) => api.alerts.webhooks.rotate.mutate({ id }),
      onSettled: renew,
    }),
    enable: useMutation({
      mutationFn: (id: string) => api.alerts.webhooks.enable.mutate({ id }),
      onSettled: renew,
    }),
    test: useMutation({
      mutationFn: (id: string) => api.alerts.webhooks.test.mutate({ id }),
    }),
    removeWebhook: useMutation({
      mutationFn: (id: string) => api.alerts.webhooks.remove.mutate({ id }),
      onSettled: renew,
    }),
  };
}
