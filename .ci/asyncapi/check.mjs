// Judge an AsyncAPI document with AsyncAPI's own parser: `node check.mjs FILE`. Errors and warnings end with 1.
import { Parser, fromFile } from '@asyncapi/parser';

const { document, diagnostics } = await fromFile(new Parser(), process.argv[2]).parse();
const severities = ['error', 'warning', 'information', 'hint'];
const wrong = diagnostics.filter((each) => each.severity <= 1);
for (const each of diagnostics) {
  console.log(`${severities[each.severity]} ${each.path.join('.')}: ${each.message}`);
}
if (document === undefined || wrong.length > 0) {
  process.exit(1);
}
console.log(`ok: AsyncAPI ${document.version()}, ${document.channels().length} channels, ` +
  `${document.operations().length} operations, ${document.components().schemas().length} schemas`);
