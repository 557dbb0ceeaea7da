// SPDX-License-Identifier: Apache-2.0
// A request as programs that send it: what is shown runs as it stands. Pure.
const KEY = 'IDEFICS_API_KEY';  // the variable: the key itself is never shown

const plain = (request) => request.kind === 'prompt';

function curl(url, request, key) {
  const auth = key ? ` -H "Authorization: Bearer $${KEY}"` : '';
  // Not -d '…': one argument of a program may have 128 KiB, and a picture has more.
  return `curl -sS '${url.replaceAll('\'', '%27')}' -H 'Content-Type: application/json'${
      auth} --data-binary @- <<'JSON'\n${JSON.stringify(request.body)}\nJSON\n`;
}

/** JSON that is Python too: it holds texts, numbers, lists and objects only. */
const python = (url, request, key) => `${key ? 'import os\n' : ''}import json
import urllib.request

body = ${JSON.stringify(request.body, null, 2)}
request = urllib.request.Request(
    ${JSON.stringify(url)},
    json.dumps(body).encode(),
    {"Content-Type": "application/json"${
    key ? `, "Authorization": "Bearer " + os.environ["${KEY}"]` : ''}})
with urllib.request.urlopen(request) as response:
    answer = json.load(response)
${
    plain(request) ? `output = answer.get("output")
print(answer["error"] if output is None else output if isinstance(output, str) else "".join(output))` :
                     'print(answer["choices"][0]["message"]["content"])'}
`;

const javaScript = (url, request, key) => `const response = await fetch(${JSON.stringify(url)}, {
  method: "POST",
  headers: {"Content-Type": "application/json"${
    key ? `, Authorization: "Bearer " + process.env.${KEY}` : ''}},
  body: JSON.stringify(${JSON.stringify(request.body, null, 2).replaceAll('\n', '\n  ')}),
});
const answer = await response.json();
console.log(${
    plain(request) ? 'answer.output ?? answer.error' : 'answer.choices[0].message.content'});
`;

/** `url`: the whole address; `key`: whether the server wants one. */
export const codeOf = {
  curl,
  Python: python,
  JavaScript: javaScript,
};
