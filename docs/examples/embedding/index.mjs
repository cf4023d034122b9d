// Probabilities of a CT by a model with the preprocessing inside: ONNX Runtime, nothing else.
// node index.mjs model.onnx scan.raw SLICES ROWS COLUMNS SLOPE INTERCEPT

import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-node";

const [model, scan, ...numbers] = process.argv.slice(2);
const [slices, rows, columns, slope, intercept] = numbers.map(Number);

const bytes = await readFile(scan);
const voxels = new Int16Array(Uint8Array.from(bytes).buffer);
const session = await ort.InferenceSession.create(model);
const { probabilities } = await session.run({
  voxels: new ort.Tensor("int16", voxels, [slices, rows, columns]),
  slope: new ort.Tensor("float32", Float32Array.of(slope), []),
  intercept: new ort.Tensor("float32", Float32Array.of(intercept), []),
});
console.log(Array.from(probabilities.data, (probability) => probability.toFixed(6)).join(" "));
