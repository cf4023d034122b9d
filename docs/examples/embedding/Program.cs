// Probabilities of a CT by a model with the preprocessing inside: ONNX Runtime, nothing else.
// dotnet run model.onnx scan.raw SLICES ROWS COLUMNS SLOPE INTERCEPT

using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

int[] shape = args[2..5].Select(int.Parse).ToArray();
float[] scaling = args[5..7].Select(text => float.Parse(text, CultureInfo.InvariantCulture)).ToArray();

short[] voxels = MemoryMarshal.Cast<byte, short>(File.ReadAllBytes(args[1])).ToArray();
using var session = new InferenceSession(args[0]);
using var results = session.Run(new[]
{
    NamedOnnxValue.CreateFromTensor("voxels", new DenseTensor<short>(voxels, shape)),
    NamedOnnxValue.CreateFromTensor("slope", new DenseTensor<float>(new[] { scaling[0] }, Array.Empty<int>())),
    NamedOnnxValue.CreateFromTensor("intercept", new DenseTensor<float>(new[] { scaling[1] }, Array.Empty<int>())),
});
var probabilities = results.First().AsEnumerable<float>();
Console.WriteLine(string.Join(" ", probabilities.Select(p => p.ToString("F6", CultureInfo.InvariantCulture))));
