import './language.js';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { BrowserRouter } from 'react-router';
import { App } from './App.js';
import { ExactAmountsProvider } from './exactAmounts.js';
import { SessionProvider } from './session.js';
import { applyTheme } from './theme.js';
import './styles/base.css';
import './styles/components.css';
import './styles/views.css';
import './styles/usage.css';
import './styles/budgets.css';
import './styles/media.css';

applyTheme();
const root = document.getElementById('root');
if (root === null) throw new Error('index.html has no #root');
createRoot(root).render(
  <StrictMode>
    <SessionProvider>
      <ExactAmountsProvider>
        <BrowserRouter>
          <App />
        </BrowserRouter>
      </ExactAmountsProvider>
    </SessionProvider>
  </StrictMode>,
);
