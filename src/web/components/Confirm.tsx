import type { ReactNode } from 'react';
import { Button, Dialog, Heading, Modal, ModalOverlay } from 'react-aria-components';

/** Asks before something that others will notice. */
export function Confirm({
  isOpen,
  title,
  action,
  isDanger = false,
  isBlocked = false,
  onConfirm,
  onClose,
  children,
}: {
  isOpen: boolean;
  title: string;
  /** The verb on the button. */
  action: string;
  isDanger?: boolean;
  /** The answer cannot be yes. */
  isBlocked?: boolean;
  onConfirm(): void;
  onClose(): void;
  children: ReactNode;
}) {
  return (
    <ModalOverlay
      className="overlay"
      isOpen={isOpen}
      isDismissable
      onOpenChange={(open) => {
        if (!open) onClose();
      }}
    >
      <Modal className="modal">
        <Dialog className="dialog" role="alertdialog">
          <Heading slot="title" level={2}>
            {title}
          </Heading>
          {children}
          <div className="dialog-actions">
            <Button className="button" onPress={onClose}>
              Cancel
            </Button>
            <Button
              className={`button ${isDanger ? 'danger' : 'primary'}`}
              isDisabled={isBlocked}
              onPress={() => {
                onConfirm();
                onClose();
              }}
            >
              {action}
            </Button>
          </div>
        </Dialog>
      </Modal>
    </ModalOverlay>
  );
}
